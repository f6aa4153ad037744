"""What is measured. Each part has `async def run(bench, record)`, and what its processes do."""
