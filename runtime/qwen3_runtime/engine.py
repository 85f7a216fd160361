"""An opened engine: chat, stream, batches of requests, embeddings, reranking."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Self

from qwen3_runtime import arguments
from qwen3_runtime.admission import choose_sampling, prepare_turn
from qwen3_runtime.budget import ThinkingBudget
from qwen3_runtime.directory import Verify, read_engine_directory
from qwen3_runtime.driver import DRIVERS
from qwen3_runtime.errors import RequestError
from qwen3_runtime.generation import Generation, TokensOnly
from qwen3_runtime.handle import Handle
from qwen3_runtime.opening import (
    checked_directory,
    checked_keys,
    checked_limits,
    checked_name,
    checked_threads,
    open_together,
)
from qwen3_runtime.pooling import Pooling
from qwen3_runtime.request import ANSWER_RESERVE, Request
from qwen3_runtime.reranking import INSTRUCTION
from qwen3_runtime.sampling import SAMPLERS
from qwen3_runtime.scheduler import Scheduler
from qwen3_runtime.sequence import TokenSequence
from qwen3_runtime.text import ChatTemplate, ReplyStream, Tokenizer
from qwen3_runtime.text.reasoning import ThinkingStart

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Never

    import numpy as np
    from numpy.typing import NDArray

    from qwen3_runtime.admission import Model
    from qwen3_runtime.completion import Completion, Event
    from qwen3_runtime.driver import Stepping
    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.request import Budget, Messages, Prompt, Tools
    from qwen3_runtime.sampling import SamplerName, Sampling
    from qwen3_runtime.signatures import KeyFile
    from qwen3_runtime.step import Backend


class Engine:
    """Runs an engine. All methods may be called from any thread of the process that opened it.

    Every step carries the requests of all threads. Requests beyond `max_sequences` wait in line. Who runs the steps,
    the threads that wait or one of the engine's own, is chosen by `stepping`.

    Attributes:
        manifest: the engine's manifest.
        backend: executes single steps; for validation and benchmarks. Do not use it while requests are running.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        *,
        max_sequences: int,
        max_waiting: int | None = None,
        prefix_cache: bool = True,
        stepping: Stepping = "caller",
        sampler: SamplerName = "fast",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.manifest: Manifest = model.manifest
        self.backend = backend
        self._clock = clock
        self._scheduler = Scheduler(
            backend,
            max_batch=max_sequences,
            max_step_tokens=model.manifest.io.max_step_tokens,
            max_context=model.max_context,
            prefix_cache=prefix_cache,
            clock=clock,
        )
        # A paged cache may hold less than one sequence of the longest context.
        self._model = dataclasses.replace(model, max_context=self._scheduler.max_context)
        self._driver = DRIVERS[stepping](
            self._scheduler, max_in_flight=None if max_waiting is None else max_sequences + max_waiting
        )
        self._pooling = Pooling(self._driver, self._model)
        self._max_sequences = max_sequences
        self._sampler = SAMPLERS[sampler]
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        max_sequences: int = 1,
        max_context: int | None = None,
        max_waiting: int | None = None,
        cache_memory: int | None = None,
        prefix_cache: bool = True,
        verify: Verify | None = None,
        strict: bool = True,
        trusted_keys: Sequence[KeyFile] = (),
        on_cpu: bool = False,
        stepping: Stepping = "caller",
        sampler: SamplerName = "fast",
    ) -> Self:
        """Open an engine directory.

        Args:
            path: the directory.
            threads: of the provider, at most one for each processor of the machine; by default one for each physical
                core that this process may use.
            max_sequences: maximum number of sequences in a step; the engine's `max_batch` at most.
            max_context: maximum number of tokens of a sequence; the default is the engine's own limit, which it cannot
                exceed.
            max_waiting: requests that may wait while `max_sequences` others run; more are refused with
                `OverloadedError`. By default any number may wait.
            cache_memory: bytes of the KV cache in the CPU's memory. By default all that `max_sequences` sequences of
                `max_context` tokens can need, but no more than half of the memory that is free, and enough for one of
                them. Memory is used as sequences grow. Where it is not enough, requests wait, or are preempted and
                continued later; a sequence cannot be longer than the whole cache.
            prefix_cache: whether a request reuses what the cache holds of the beginning of its prompt, computed for
                another request of the same `cache_salt`. Engines with one cache block for each sequence never do.
            verify: `fast` checks the SHA-256 of everything but the weights, `full` of the weights too. The default is
                `full` with `trusted_keys`, else `fast`.
            strict: False also opens an engine whose files are links, as in the hub's cache, a ConfigMap or a store of
                hard links, or that has other files beside them. The same hashes are checked, by `verify`.
            trusted_keys: files with Ed25519 public keys in PEM; an engine that none of them signed is refused before
                anything of it is parsed.
            on_cpu: execute the graph that a TensorRT engine's plan was made from, with ONNX Runtime on the CPU: slow,
                for validation where there is no GPU.
            stepping: who runs the steps. `caller`: whoever waits for a result, and a request that nobody waits for
                advances only while others are being waited for; for scripts. `thread`: a thread of the engine's own,
                until it is closed; for services: requests advance, and are cancelled or end at their deadlines,
                whether anybody waits or not.
            sampler: `reference` chooses tokens as they are defined, in float64 and a hundred times slower; to find out
                whether an odd answer is the model's or the sampler's.

        Raises:
            DamagedEngineError: the directory does not hold together.
            UntrustedEngineError: no trusted key signed it.
            UnsupportedEngineError: it cannot run here.
            RequestError: an argument is wrong.
        """
        if cache_memory is not None:
            cache_memory = arguments.integer("cache_memory", cache_memory, 1, 2**63 - 1, expected="a number of bytes")
        directory, threads = checked_directory(path), checked_threads(threads)
        strict, on_cpu = arguments.switch("strict", strict), arguments.switch("on_cpu", on_cpu)
        prefix_cache = arguments.switch("prefix_cache", prefix_cache)
        trusted_keys = checked_keys(trusted_keys)
        sampler, stepping = checked_name("sampler", sampler, SAMPLERS), checked_name("stepping", stepping, DRIVERS)
        if max_waiting is not None:
            max_waiting = arguments.integer("max_waiting", max_waiting, 0)
        manifest = read_engine_directory(directory, verify, strict=strict, trusted_keys=trusted_keys)
        max_sequences, max_context = checked_limits(manifest.io, max_sequences, max_context)
        model, backend = open_together(
            directory,
            manifest,
            threads=threads,
            max_sequences=max_sequences,
            max_context=max_context,
            cache_memory=cache_memory,
            on_cpu=on_cpu,
        )
        return cls(
            model,
            backend,
            max_sequences=max_sequences,
            max_waiting=max_waiting,
            prefix_cache=prefix_cache,
            stepping=stepping,
            sampler=sampler,
        )

    def __repr__(self) -> str:
        io = self.manifest.io
        state = " (closed)" if self._closed else ""
        return (
            f"<Engine {self.manifest.name}: {io.task}, target {self.manifest.target.backend}, {self._max_sequences} x "
            f"{self.max_context} tokens{state}>"
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if the engine has one."""
        return self._model.tokenizer

    @property
    def template(self) -> ChatTemplate | None:
        """The model's chat template, if the engine has one."""
        return self._model.template

    @property
    def max_context(self) -> int:
        """Tokens a sequence may hold, prompt and output together."""
        return self._scheduler.max_context

    def chat(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        thinking: bool | None = None,
        thinking_budget: Budget = "default",
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        deadline: float | None = None,
        sampling: Sampling | Mapping[str, float] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        repetition_penalty: float | None = None,
        answer_reserve: int = ANSWER_RESERVE,
        cache_salt: str | None = None,
        **unknown: Never,
    ) -> Completion:
        """Answer a conversation, or a text as its only message, and wait for the end. Options as in `Request`.

        Raises:
            RequestError: the request cannot be served.
            PromptTooLongError: its prompt does not fit; a `RequestError`.
            UnknownOptionError: `unknown` are options that no request has; a `RequestError` and a `TypeError`.
            OverloadedError: as many requests wait as `max_waiting` allows.
            StepFailedError: the backend failed.
            EngineClosedError: the engine was closed, or opened by another process.
        """
        return self.generate([_request(locals())])[0]

    def complete(
        self,
        prompt: Prompt,
        *,
        tools: Tools | None = None,
        thinking: bool | None = None,
        thinking_budget: Budget = "default",
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        deadline: float | None = None,
        sampling: Sampling | Mapping[str, float] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        repetition_penalty: float | None = None,
        answer_reserve: int = ANSWER_RESERVE,
        cache_salt: str | None = None,
        **unknown: Never,
    ) -> Completion:
        """Continue a raw prompt, text or token ids, and wait for the end. Options and errors as for `chat`."""
        return self.generate([_request(locals())])[0]

    def stream(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        thinking: bool | None = None,
        thinking_budget: Budget = "default",
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = (),
        deadline: float | None = None,
        sampling: Sampling | Mapping[str, float] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        repetition_penalty: float | None = None,
        answer_reserve: int = ANSWER_RESERVE,
        cache_salt: str | None = None,
        **unknown: Never,
    ) -> Iterator[Event]:
        """Answer a conversation piece by piece: `TextDelta` events, then one `Finished`.

        The request is checked here, before the first event is asked for. Closing the iterator cancels the request.
        Options and errors as for `chat`.
        """
        return self._iterate(*self._prepare(_request(locals())))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Run requests together, as many in a step as `max_sequences` allows; results in the order given.

        A sequence's tokens do not depend on which others run beside it, but for the rounding of the backend.

        Raises:
            RequestError: one of them cannot be served; then none is run.
            OverloadedError: as many requests wait as `max_waiting` allows; then none is run.
            StepFailedError: the backend failed.
            EngineClosedError: the engine was closed, or opened by another process.
        """
        requests = arguments.items("requests", requests, "a list of Requests")
        prepared = [self._prepare(request) for request in requests]
        self._driver.queue(*(running for _, running in prepared))
        try:
            return [handle.result() for handle, _ in prepared]
        finally:
            for handle, _ in prepared:
                handle.cancel()

    def submit(self, request: Request) -> Handle:
        """Queue a request.

        Returns:
            A handle to iterate, wait on or cancel.

        Raises:
            RequestError: the request cannot be served.
            OverloadedError: as many requests wait as `max_waiting` allows.
            EngineClosedError: the engine was closed, or opened by another process.
        """
        handle, running = self._prepare(request)
        self._driver.queue(running)
        return handle

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: the model's output at the last token, which the tokenizer of these models appends.

        Args:
            texts: what to embed; a bare string is one text.

        Returns:
            float32 [len(texts), hidden_size], each row of L2 norm 1; [1, hidden_size] for a bare string.

        Raises:
            RequestError: a text is too long, or the engine gives logits.
        """
        return self._pooling.embed(texts)

    def rerank(
        self, query: str, documents: str | Sequence[str], *, instruction: str = INSTRUCTION
    ) -> NDArray[np.float32]:
        """Score documents by their relevance to a query.

        Args:
            query: what is searched for.
            documents: candidates; each is judged alone. A bare string is one.
            instruction: what counts as relevant, in a sentence.

        Returns:
            float32 [len(documents)], [1] for a bare string: the probability of "yes" against "no".

        Raises:
            RequestError: a document is too long, or the engine is no reranker.
        """
        return self._pooling.rerank(query, documents, instruction)

    def close(self) -> None:
        """Cancel what is running and free session and cache. The engine must not be used afterwards."""
        if not self._closed:
            self._closed = True
            if self._driver.close():
                self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _prepare(self, request: Request) -> tuple[Handle, TokenSequence]:
        if not isinstance(request, Request):
            raise RequestError.at("request", f"expected a Request, found {arguments.kind(request)}")
        if self.manifest.io.output != "logits":
            problem = f"this engine is made for {self.manifest.io.task}: use embed()"
            raise RequestError(problem, field=request.source)
        model = self._model
        turn = prepare_turn(request, model)
        sampling = choose_sampling(request, model, turn.start)
        handle = Handle(self._driver)
        now = self._clock()
        generation = Generation(
            turn,
            self._sampler(sampling, self.manifest.io.tokenizer_vocab_size, turn.prompt),
            TokensOnly() if model.tokenizer is None else ReplyStream(model.tokenizer, turn.start, request.stop),
            ThinkingBudget(turn.budget, inside=turn.start is ThinkingStart.INSIDE),
            emit=handle.put,
            on_error=handle.put_error,
            submitted=now,
        )
        deadline = None if request.deadline is None else now + request.deadline
        salt = b"" if request.cache_salt is None else request.cache_salt.encode("utf-8", "surrogatepass")
        running = TokenSequence(generation.initial_tokens(), generation, deadline, salt)
        handle.bind(running)
        return handle, running

    def _iterate(self, handle: Handle, running: TokenSequence) -> Iterator[Event]:
        self._driver.queue(running)
        try:
            yield from handle
        finally:
            handle.cancel()


def _request(given: dict[str, Any]) -> Request:
    """The request that a method was called for: its local variables."""
    del given["self"]
    return Request(**given.pop("unknown"), **given)
