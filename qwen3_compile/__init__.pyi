from qwen3_compile.api import compile_engine as compile_engine
from qwen3_compile.errors import AccuracyError as AccuracyError
from qwen3_compile.errors import CompileError as CompileError
from qwen3_compile.pipeline.orchestrate import EngineInfo as EngineInfo
from qwen3_compile.pipeline.progress import Progress as Progress
from qwen3_compile.spec import Spec as Spec
from qwen3_compile.spec import load_spec as load_spec

__version__: str
