"""The layout of the package: which room may import which, and names that are used once.

system < config < {sound, bitstream, networks} < blocks < checkpoint < pretrained < codec
       < {transcode, convert, language} < {evaluation, export, tokens}
       < {training, benchmark, datasets} < commands
"""

import ast
import collections
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "encodec_hk"
LEVELS = (
    {"version"},
    {"system"},
    {"config", "configs", "framing"},
    {"sound", "bitstream", "networks"},
    {"blocks"},
    {"checkpoint"},
    {"pretrained"},
    {"codec"},
    {"transcode", "convert", "language"},
    {"evaluation", "export", "tokens"},
    {"training", "benchmark", "datasets"},
    {"commands"},
    {"__main__"},
)
ORDER = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Packages that one room alone imports, and rooms that do without one.
ONLY_IN = dict.fromkeys(("torch", "transformers", "encodec", "vocos"), "convert")
WITHOUT_JAX = ("system", "sound", "bitstream")


def room_of(path: pathlib.Path) -> str:
    """The folder of a file of the package, or the name of a file that lies beside the folders."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, anywhere in it, TYPE_CHECKING and functions included.

    The public names of the package count as `encodec_hk.codec`, from where they come.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "require") and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
    return {"encodec_hk.codec" if name == "encodec_hk" else name for name in found}


def files() -> list[pathlib.Path]:
    return sorted(PACKAGE.rglob("*.py"))


class LayoutTest(parameterized.TestCase):
    def test_every_room_has_a_level(self):
        self.assertEqual({room_of(path) for path in files()} - {"__init__"}, set(ORDER))

    def test_imports_point_down(self):
        wrong = []
        for path in files():
            room = room_of(path)
            if room == "__init__":  # the public names
                continue
            for name in imports_of(path):
                package, _, rest = name.partition(".")
                other = rest.split(".")[0]
                if package == "encodec_hk" and other != room and ORDER[other] >= ORDER[room]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
        self.assertEqual(wrong, [])

    def test_commands_do_not_import_commands(self):
        run = (PACKAGE / "commands" / "usage.py").read_text()
        commands = [path.stem for path in PACKAGE.glob("commands/*.py") if f'"{path.stem}":' in run]
        self.assertGreaterEqual(len(commands), 7)
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in PACKAGE.glob("commands/*.py")
            for name in imports_of(path)
            if name in {f"encodec_hk.commands.{command}" for command in commands}
        ]
        self.assertEqual(wrong, [])

    @parameterized.parameters(*ONLY_IN.items())
    def test_a_package_of_one_room(self, package, room):
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in files()
            for name in imports_of(path)
            if name.split(".")[0] == package and room_of(path) != room
        ]
        self.assertEqual(wrong, [])

    @parameterized.parameters(*WITHOUT_JAX)
    def test_rooms_without_jax(self, room):
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in (PACKAGE / room).rglob("*.py")
            for name in imports_of(path)
            if name.split(".")[0] in ("jax", "jaxlib", "haiku", "chex")
        ]
        self.assertEqual(wrong, [])

    def test_haiku_transforms_in_one_file(self):
        found = [
            path.relative_to(PACKAGE).as_posix()
            for path in (PACKAGE / "networks").rglob("*.py")
            if "transform(" in path.read_text()
        ]
        self.assertEqual(found, ["networks/model.py"])

    def test_configs_import_nothing_of_the_package(self):
        for path in (ROOT / "configs").glob("*.py"):
            names = imports_of(path)
            rooms = {name for name in names if not name.startswith("encodec_hk.configs.")}
            self.assertLessEqual({name.split(".")[0] for name in rooms}, {"ml_collections"}, path)

    def test_no_import_has_an_alias_for_want_of_a_name(self):
        wrong = [
            f"{path.relative_to(ROOT)}: {alias.name} as {alias.asname}"
            for path in (*files(), *(ROOT / "tests").rglob("*.py"))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("encodec_hk")
            for alias in node.names
            if alias.asname
        ]
        self.assertEqual(wrong, [])

    def test_file_names_are_used_once(self):
        rooms = collections.defaultdict(list)
        for path in files():
            if path.name != "__init__.py":
                rooms[path.name].append(path.relative_to(PACKAGE).as_posix())
        # A command has the name that a user types.
        double = {
            name: paths
            for name, paths in rooms.items()
            if len([path for path in paths if not path.startswith("commands/")]) > 1
        }
        self.assertEqual(double, {})

    def test_public_class_names_are_used_once(self):
        rooms = collections.defaultdict(list)
        for path in files():
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    rooms[node.name].append(path.relative_to(PACKAGE).as_posix())
        self.assertEqual({name: paths for name, paths in rooms.items() if len(paths) > 1}, {})


if __name__ == "__main__":
    absltest.main()
