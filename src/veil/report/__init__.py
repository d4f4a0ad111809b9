"""Pictures, tables and pages: one style for all of them. Needs the extra ``veil[plots]`` (matplotlib)."""
