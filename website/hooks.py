"""What the site needs beyond MkDocs: formulas as MathML, and notebooks with what they print.

Formulas become MathML when the site is built, so that pages need no script and no server to show
them; a formula that cannot be read stops the build, and so does a notebook that fails.
"""

import html
import os
import re
from pathlib import Path

import jupytext
from math_core import LatexError, LatexToMathML
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\s*(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])\s*</\1>', re.DOTALL
)
CONVERTER = LatexToMathML(
    fancy_error=False,
    macros={"cr": r"\\", "thinspace": r"\,"},  # as GitHub's Markdown needs them
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page for each notebook, run unless ``RUN_NOTEBOOKS=0``."""
    for path in sorted(Path(config.config_file_path).with_name("notebooks").glob("*.py")):
        notebook = jupytext.read(path)
        if os.environ.get("RUN_NOTEBOOKS") != "0":
            NotebookClient(notebook, kernel_name="python3").execute()
        text, resources = MarkdownExporter().from_notebook_node(
            notebook, resources={"unique_key": path.stem}
        )
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, image in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=image))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between documents and notebooks as they are in the repository, for the site."""
    if page.file.src_uri.startswith("notebooks/"):
        return text.replace("](../docs/", "](../")
    return re.sub(r"\]\(\.\./((?:\.\./)*notebooks/\w+)\.py\)", r"](\1.md)", text)


def on_page_content(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML."""

    def convert(match: re.Match[str]) -> str:
        latex = html.unescape(match[2])
        if r"\tag" in latex:
            latex = rf"\begin{{equation}}{latex}\end{{equation}}"
        try:
            return CONVERTER.convert_with_local_state(latex, displaystyle=match[1] == "div")
        except LatexError as error:
            raise PluginError(f"{page.file.src_uri}: {latex!r}: {error}") from error

    text = FORMULA.sub(convert, text)
    if "arithmatex" in text or "<code>math\n" in text:
        raise PluginError(f"{page.file.src_uri}: a formula was not recognised as one")
    return _with_links(text, page, files) if page.file.src_uri.startswith("reference/") else text


def _with_links(text: str, page: Page, files: Files) -> str:
    """Docstrings with links to the pages they name, and Sphinx's roles without their colons."""

    def link(match: re.Match[str]) -> str:
        target = files.get_file_from_path(match[1])
        if target is None:
            raise PluginError(f"{page.file.src_uri}: there is no page {match[0]}")
        return f'<a href="{target.url_relative_to(page.file)}">{match[1]}</a>'

    return re.sub(r"docs/(\w+\.md)", link, re.sub(r":[a-z]+:(?=<code>)", "", text))
