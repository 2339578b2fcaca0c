"""Leaves out what no page needs.

sphinx-thebe   Jupyter Book always adds its scripts, twice, and they would load code from elsewhere for a server that
nobody runs fontawesome.js 1.5 MB that draw each icon again; the theme's style sheet has the icons as fonts
"""

from pathlib import Path


def setup(app):
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("build-finished", without_icon_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def without_thebe(app, page, template, context, doctree):
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(getattr(script, "filename", script)).lower()
        and "THEBE" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


def without_icon_script(app, error):
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if script.exists():
        script.write_text("// the icons come from the style sheet's fonts\n")
