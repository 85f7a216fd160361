"""Tokens that a checkpoint declares outside `tokenizer.json`, added to it as transformers adds them when it loads.

transformers reads `added_tokens_decoder`, the named tokens and the extra special tokens of `tokenizer_config.json`, or
the older `added_tokens.json` and `special_tokens_map.json`. The runtime reads `tokenizer.json` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken

from qwen3_compile.engine.tokens import json_object, open_tokenizer
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

# In the order in which transformers adds them.
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Classes of transformers that load `tokenizer.json` as it is; Qwen2Tokenizer declares its special tokens once more.
_GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


def completed_tokenizer(assets: Mapping[str, Path]) -> tuple[Tokenizer, bytes | None]:
    """Open `tokenizer.json` and add the tokens that only other files declare.

    Args:
        assets: the tokenizer's files by name; `added_tokens.json` and `special_tokens_map.json` count where they are.

    Returns:
        The tokenizer, and what `tokenizer.json` then is; None where there is nothing to add.

    Raises:
        CheckpointError: a file is damaged, or gives a token an id that it cannot have.
    """
    path = assets["tokenizer.json"]
    tokenizer = open_tokenizer(path)
    before = tokenizer.get_added_tokens_decoder()
    declared = _declared(assets, {token.content for token in before.values()})
    config = json_object(assets.get("tokenizer_config.json")) | _legacy_roles(assets)
    named = list(_named_tokens(config, str(path)))
    extra = list(_extra_tokens(config, str(path)))
    names = {token.content for token in named}
    for token in declared.values():
        token.special = token.special or token.content in names
    known = {token.content for token in before.values()} | {token.content for token in declared.values()}
    new = [token for token in (*named, *extra) if token.content not in known]
    tokenizer.add_tokens([token for _, token in sorted(declared.items())] + new)
    if config.get("tokenizer_class") not in _GENERIC_CLASSES:
        tokenizer.add_tokens([AddedToken(token.content, special=True) for token in (*named, *extra)])
    for index, token in declared.items():
        if (found := tokenizer.token_to_id(token.content)) != index:
            raise CheckpointError(
                f"{_declaring_file(assets)}: declares {token.content!r} as token {index}, but after the tokens of "
                f"{path.name} it is token {found}; declare every added token, in the order of their ids"
            )
    if _flags(before) == _flags(tokenizer.get_added_tokens_decoder()):
        return tokenizer, None
    return tokenizer, tokenizer.to_str(pretty=True).encode()


def _declared(assets: Mapping[str, Path], inside: Collection[str]) -> dict[int, AddedToken]:
    """Tokens that are declared with an id; of older files only those that are not `inside` tokenizer.json."""
    path = assets.get("tokenizer_config.json")
    config = json_object(path)
    if "added_tokens_decoder" in config:
        listed, where = config["added_tokens_decoder"], f"{path}: added_tokens_decoder"
        if not isinstance(listed, dict) or not all(key.isascii() and key.isdigit() for key in listed):
            raise CheckpointError(f"{where}: expected an object of tokens by id")
        return {int(key): _token(token, f"{where}: {key}") for key, token in listed.items()}
    older, path = json_object(assets.get("added_tokens.json")), assets.get("added_tokens.json")
    if not all(type(index) is int and index >= 0 for index in older.values()):
        raise CheckpointError(f"{path}: expected an object of ids by token")
    config |= _legacy_roles(assets)
    special = {token.content for token in (*_named_tokens(config, ""), *_extra_tokens(config, ""))}
    return {
        index: AddedToken(content, normalized=content not in special, special=content in special)
        for content, index in older.items()
        if content not in inside  # tokenizer.json knows its flags
    }


def _declaring_file(assets: Mapping[str, Path]) -> Path:
    config = assets.get("tokenizer_config.json")
    if config is not None and "added_tokens_decoder" in json_object(config):
        return config
    return assets["added_tokens.json"]


def _legacy_roles(assets: Mapping[str, Path]) -> dict[str, Any]:
    """`special_tokens_map.json`, which counts only beside a configuration without `added_tokens_decoder`."""
    config = json_object(assets.get("tokenizer_config.json"))
    return {} if "added_tokens_decoder" in config else json_object(assets.get("special_tokens_map.json"))


def _named_tokens(config: Mapping[str, Any], where: str) -> Iterator[AddedToken]:
    """The tokens of roles: the seven known ones, then any other key `*_token` that is one."""
    for key in _ROLES:
        if config.get(key) is not None:
            yield _special(config[key], f"{where}: {key}")
    for key, value in config.items():
        if key.endswith("_token") and key not in _ROLES and isinstance(value, str):
            yield _special(value, f"{where}: {key}")
    extra = config.get("extra_special_tokens")
    if isinstance(extra, dict):
        for key, value in extra.items():
            yield _special(value, f"{where}: extra_special_tokens: {key}")


def _extra_tokens(config: Mapping[str, Any], where: str) -> Iterator[AddedToken]:
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    if isinstance(extra, dict):
        return
    if not isinstance(extra, list):
        raise CheckpointError(f"{where}: extra_special_tokens: expected a list of tokens, found {extra!r}")
    for place, token in enumerate(extra):
        yield _special(token, f"{where}: extra_special_tokens[{place}]")


def _special(value: object, where: str) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True)
    token = _token(value, where)
    token.special = True
    return token


def _token(value: object, where: str) -> AddedToken:
    fields = {key: field for key, field in value.items() if key != "__type"} if isinstance(value, dict) else {}
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    content = fields.pop("content", None)
    if not isinstance(content, str) or not all(key in flags and type(flag) is bool for key, flag in fields.items()):
        raise CheckpointError(f"{where}: expected a token with content and flags ({', '.join(flags)}), found {value!r}")
    return AddedToken(content, **fields)


def _flags(tokens: Mapping[int, AddedToken]) -> dict[int, tuple[object, ...]]:
    return {
        index: (token.content, token.lstrip, token.rstrip, token.normalized, token.single_word, token.special)
        for index, token in tokens.items()
    }
