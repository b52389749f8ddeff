"""beartype with the numeric tower: where a float is wanted, an int is one."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
