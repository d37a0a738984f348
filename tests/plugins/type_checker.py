"""The checker of annotations in the test run; pyproject.toml names it to pytest."""

import beartype

# As PEP 484 and pyright have it: where a float is asked for, an int will do.
check_types = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
