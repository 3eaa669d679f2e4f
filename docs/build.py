"""Build the site, into build/site or the folder that is named:

    pip install -e '.[docs]' && python docs/build.py [FOLDER]

MathJax is fetched once, from the npm registry, into build/; the environment variable TEACHVAE_MATHJAX may
name its archive, mathjax-3.2.2.tgz, where no network is. The site asks for nothing from elsewhere.
"""

import hashlib
import io
import os
from pathlib import Path
import sys
import tarfile
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
MATHJAX = "https://registry.npmjs.org/mathjax/-/mathjax-3.2.2.tgz"
SHA256 = "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"
NEEDED = ("package/es5/tex-chtml.js", "package/es5/output/chtml/fonts/", "package/LICENSE")


def mathjax(folder):
    """Put MathJax 3.2.2 into folder/mathjax. Raises ValueError where the archive is another."""
    if (folder / "mathjax").exists():
        return
    given = os.environ.get("TEACHVAE_MATHJAX")
    if given:
        archive = Path(given).read_bytes()
    else:
        with urlopen(MATHJAX, timeout=60) as answer:
            archive = answer.read()
    if hashlib.sha256(archive).hexdigest() != SHA256:
        raise ValueError(f"{given or MATHJAX} is not MathJax 3.2.2 as published: its sha256 is another")
    part = folder / "mathjax.part"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            if member.isfile() and member.name.startswith(NEEDED):
                file = part / member.name.removeprefix("package/").removeprefix("es5/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(tar.extractfile(member).read())
    part.rename(folder / "mathjax")


def main(arguments):
    """Build; what Sphinx warns of is an error."""
    from sphinx.cmd.build import build_main

    static = ROOT / "build" / "site-static"
    static.mkdir(parents=True, exist_ok=True)
    mathjax(static)
    os.environ["TEACHVAE_SITE_STATIC"] = str(static)
    folder = Path(arguments[0]) if arguments else ROOT / "build" / "site"
    options = ["-E", "-W", "--keep-going", "-q", "-b", "html", "-c", str(ROOT / "docs")]
    return build_main([*options, "-d", str(ROOT / "build/doctrees"), str(ROOT), str(folder)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
