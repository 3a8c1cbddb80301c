"""Generated parts of pages, each between two marks on lines of their own."""

import pathlib

from harness import paths


def publish(path: pathlib.Path, part: str, page: str) -> None:
    """Puts the page between `<!-- PART:begin -->` and `<!-- PART:end -->`."""
    begin, end = f"<!-- {part}:begin -->\n", f"<!-- {part}:end -->\n"
    text = path.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{path.name} has no place for it: put {begin.strip()} and {end.strip()} on lines of their own")
    before, rest = text.split(begin, 1)
    _, after = rest.split(end, 1)
    path.write_text(f"{before}{begin}\n{page}\n{end}{after}")
    print(f"{path.relative_to(paths.ROOT)} is written")
