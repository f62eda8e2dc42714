"""The command line: one file a sub-command, each with ``add_parser`` and ``run``.

Arguments, exit codes and what is shown on a terminal live here; everything that a program could want without
a terminal lives below. aiohttp and Pillow are loaded inside ``run`` only, so that ``--help`` answers at once.
"""
