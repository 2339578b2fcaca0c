"""Leaves sphinx-thebe's scripts out: Jupyter Book always adds them, twice, and they would load code from elsewhere for a server that nobody runs."""


def setup(app):
    app.connect("html-page-context", without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def without_thebe(app, page, template, context, doctree):
    context["script_files"] = [script for script in context["script_files"] if "thebe" not in str(getattr(script, "filename", script)).lower()
                               and "THEBE" not in str(getattr(script, "attributes", {}).get("body", ""))]
