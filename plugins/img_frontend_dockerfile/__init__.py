"""The built-in Dockerfile frontend: text → instructions → stages → graph. Parsing, expansion and lowering do no I/O."""
