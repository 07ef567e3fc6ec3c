"""A hook of MkDocs: pages are taken from all over the project, at the paths they have there.

MkDocs alone knows one folder of pages. With paths counted from the project's folder, links between
README.md, docs/ and benchmarks/ lead to the same page on the site as in the repository.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "docs/**/*.png",
    "benchmarks/**/*.md",
    "benchmarks/**/*.png",
    "dptrain/data/*/NOTICE.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the theme's files, and the project's pages and pictures."""
    theme = [each for each in files if each.src_dir != config.docs_dir]
    names = sorted({each.relative_to(ROOT) for pattern in PATTERNS for each in ROOT.glob(pattern)})
    ours = [
        File(str(name), str(ROOT), config.site_dir, config.use_directory_urls) for name in names
    ]
    return Files([*theme, *ours])
