"""memlora for other programs: MCP tools, and the resident process that owns models and store for all of them."""
