"""
mkdocs' hook: files of other folders that are pages or pictures of the site too.

On a code host the pages link to them where they are, so that nothing is in the repository twice.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
FOLDERS = {"alerts/runbooks": "reference/runbooks", "dashboards/pictures": "pictures"}
"""Folders of the repository, and where their files stand in the site."""
PICTURE = re.compile(
    r'<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="(.+)">\n'
    r'<img alt="(.+)" src="(.+)">\n</picture>'
)
"""How pages show a picture: its dark file, its text, its light file."""
SUFFIXES = {".md", ".png", ".svg"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of FOLDERS."""
    for folder, target in FOLDERS.items():
        for file in sorted((ROOT / folder).iterdir()):
            if file.suffix in SUFFIXES:
                files.append(File.generated(config, f"{target}/{file.name}", abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """
    Turn links to FOLDERS into links to where their files stand in the site.

    A `<picture>` becomes two images, for light and for dark. The site shows the image for the reader's theme,
    and a click on it shows it in its full size, as on a code host.
    """
    markdown = PICTURE.sub(r"[![\2](\3#only-light)](\3)\n[![\2](\1#only-dark)](\1)", markdown)
    up = "../" * page.file.src_uri.count("/")
    for folder, target in FOLDERS.items():
        markdown = markdown.replace(f"](../{up}{folder}/", f"]({up}{target}/")
    return markdown
