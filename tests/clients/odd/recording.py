"""What Kafka answered, as a file, and how ours differs from it."""

import dataclasses
import json
import pathlib
import re

FILE = pathlib.Path(__file__).resolve().parent / "kafka.json"
# By case, which is `API what-is-odd`, and version.
Answers = dict[str, dict[int, object]]
LEAF_CHARS_MAX = 200
ERROR, ABSENT = "error_code", "(absent)"


@dataclasses.dataclass(frozen=True)
class Accepted:
    """A difference that is known: in each of these cases of this scene (regular expressions), `PATH: KAFKA -> OURS`."""

    scene: str
    case: str
    what: str
    why: str

    def is_about(self, scene: str, case: str) -> bool:
        return bool(re.fullmatch(self.scene, scene) and re.fullmatch(self.case, case))


def load() -> dict[str, Answers]:
    by_scene = json.loads(FILE.read_text())
    return {scene: {case: {int(version): answer for versions, answer in of.items() for version in versions.split()}
                    for case, of in cases.items()} for scene, cases in by_scene.items()}


def save(by_scene: dict[str, Answers]):
    """A line for each answer, with all the versions that are answered so."""
    lines = ["{"]
    for scene in sorted(by_scene):
        lines.append(f" {json.dumps(scene)}: {{")
        for case, of in sorted(by_scene[scene].items()):
            same: dict[str, list[int]] = {}
            for version, answer in sorted(of.items()):
                same.setdefault(json.dumps(answer, ensure_ascii=False), []).append(version)
            answers = ",\n    ".join(f'"{" ".join(map(str, versions))}": {answer}' for answer, versions in same.items())
            lines.append(f"  {json.dumps(case)}: {{\n    {answers}}},")
        lines[-1] = lines[-1].removesuffix(",")
        lines.append(" },")
    lines[-1] = lines[-1].removesuffix(",")
    FILE.write_text("\n".join([*lines, "}", ""]))


def differing(kafka, ours, path: str = "") -> list[str]:
    """What is not the same in two answers, each as `PATH: KAFKA -> OURS`."""
    if isinstance(kafka, dict) and isinstance(ours, dict):
        if kafka.get(ERROR) != ours.get(ERROR):
            kafka, ours = ({ERROR: one.get(ERROR, ABSENT)} for one in (kafka, ours))  # The rest follows from it.
        return [line for name in {**kafka, **ours} for line in differing(
            kafka.get(name, ABSENT), ours.get(name, ABSENT), f"{path}.{name}" if path else name)]
    if isinstance(kafka, list) and isinstance(ours, list) and len(kafka) == len(ours):
        return [line for one, other in zip(kafka, ours) for line in differing(one, other, path)]
    return [] if kafka == ours else [f"{path}: {_leaf(kafka)} -> {_leaf(ours)}"]


def _leaf(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LEAF_CHARS_MAX else text[:LEAF_CHARS_MAX] + "..."


def compare(scene: str, kafka: Answers, ours: Answers, accepted: list[Accepted]) -> tuple[list[str], list[str], set[Accepted]]:
    """Differences that are not accepted, accepted ones that are none, and what is accepted of this scene."""
    unknown, gone, used = [], [], set()
    for case in sorted({**kafka, **ours}):
        for version in sorted({**kafka.get(case, {}), **ours.get(case, {})}):
            name = f"{case} v{version}"
            lines = differing(kafka.get(case, {}).get(version, "(not recorded)"), ours.get(case, {}).get(version, "(not asked)"))
            about = [one for one in accepted if one.is_about(scene, name)]
            used.update(about)
            unknown += [f"{name}: {line}" for line in lines if not any(re.fullmatch(one.what, line) for one in about)]
            gone += [f"{name} no longer differs in '{one.what}'" for one in about if not any(re.fullmatch(one.what,
                                                                                                          line) for line in lines)]
    return unknown, gone, used
