"""A small client of `inferring`: asks the demo's three models, needs only Python itself."""
