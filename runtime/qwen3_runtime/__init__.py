"""Opens a qwen3-compile engine and runs it: session, KV cache, chat template, decode loop with budgets."""
