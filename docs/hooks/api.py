"""Makes one API page for each module directly below `veil`, and lists them in the navigation."""

from pathlib import Path

from mkdocs.structure.files import File

SOURCE = Path(__file__).parents[2] / "src" / "veil"
PAGE = """# veil.{name}

::: veil.{name}
    options:
      show_root_toc_entry: false
      show_submodules: true
"""


def modules():
    files = [path.stem for path in SOURCE.glob("*.py")] + [path.parent.name for path in SOURCE.glob("*/__init__.py")]
    return sorted(name for name in files if not name.startswith("_"))


def on_config(config):
    for entry in config.nav:
        if "API" in entry:
            entry["API"] += [{f"veil.{name}": f"api/{name}.md"} for name in modules()]
    return config


def on_files(files, config):
    for name in modules():
        files.append(File.generated(config, f"api/{name}.md", content=PAGE.format(name=name)))
    return files
