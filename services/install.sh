#!/bin/sh
# Fills what an image ships, in its build stage: install.sh dependencies REQUIREMENTS | install.sh ours PACKAGE…
#
# The two are layers of their own: a change of our code ships a few megabytes, and images with the same requirements
# share the large one. Nothing is fetched that is not in a hash-locked file. What lies below both, Python and the
# libraries it links, is image_root.py's.
set -eu
venv=/opt/sicargabox ours=/opt/ours
export PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

compile() { # compile FOLDER [EXCEPT]: by content, since the dates of files do not outlive every registry
  "$venv/bin/python" -m compileall -q --invalidation-mode unchecked-hash ${2:+-x "$2"} "$1"
}

case $1 in
  dependencies)
    python -m venv --without-pip "$venv"
    python -m pip --python "$venv/bin/python" install --quiet --no-compile --no-deps --require-hashes -r "$2"
    packages=$(echo "$venv"/lib/python3.*/site-packages)
    rm -rf "$venv"/bin/[Aa]ctivate* "$packages"/sqlalchemy/testing "$packages"/alembic/testing
    # 30 MB: dates and numbers of a thousand languages; the staff pages know two.
    if [ -d "$packages/babel/locale-data" ]; then
      find "$packages/babel/locale-data" -name '*.dat' ! -name 'root.dat' ! -name 'e[ns].dat' ! -name 'e[ns]_*.dat' -delete
    fi
    # 10 MB: what no process imports is compiled when somebody does after all.
    compile "$venv/lib" '/(pygments/(lexers|styles)|sqlalchemy/dialects/(mysql|mssql|oracle)|prompt_toolkit|elasticsearch/(dsl|esql)|wcwidth/table_grapheme_overrides)/'
    # Nobody adds a library to an image of no distribution later.
    python image_root.py check /base "$venv"
    ;;
  ours)
    shift
    python -m pip install --quiet --no-deps --require-hashes -r requirements/build.txt
    python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels "$@"
    python -m pip --python "$venv/bin/python" install --quiet --no-compile --no-deps --no-index --prefix "$ours" wheels/*.whl
    compile "$ours/lib"
    # Proves that the lock file names all that the packages ask for.
    PYTHONPATH=$(echo "$ours"/lib/python3.*/site-packages) python -m pip --python "$venv/bin/python" check
    ;;
esac
