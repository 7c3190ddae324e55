"""Records of which every text is meant to run in a page."""

from fake_records import write_run
from hostile import edit_record

from cnnexp.records import study as study_file

SCRIPT = "document.title='FIRED'"
HTML = [
    f"<script>{SCRIPT}</script>",
    f"</title><script>{SCRIPT}</script>",
    f"</style><script>{SCRIPT}</script>",
    f"--></code></pre><script>{SCRIPT}</script><!--",
    f'"><img src=x onerror="{SCRIPT}">',
    f"'><img src=x onerror={SCRIPT}>",
    f"` onmouseover=`{SCRIPT}",
    f'" onload="{SCRIPT}" x="',
    f'" autofocus onfocus={SCRIPT} ',
    f"<svg onload={SCRIPT}>",
    f"<svg><animate onbegin={SCRIPT} attributeName=x></svg>",
    f"<math><mtext></mtext><mglyph><svg><mtext><style><img src onerror={SCRIPT}>",
    f"<iframe srcdoc='<script>{SCRIPT}</script>'></iframe>",
    f"<iframe src=javascript:{SCRIPT}>",
    f"<a href='javascript:{SCRIPT}'>x</a>",
    f"<a href='data:text/html,<script>{SCRIPT}</script>'>x</a>",
    f"<object data='javascript:{SCRIPT}'></object>",
    "<base href='https://elsewhere.example/'>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example/'>",
    "<link rel=stylesheet href=https://elsewhere.example/x.css>",
    "<form action=https://elsewhere.example/><input name=x></form>",
    "<style>@import 'https://elsewhere.example/x.css'; body{display:none}</style>",
    "<template><script>x</script></template>",
    f"&lt;script&gt;{SCRIPT}&lt;/script&gt;<script>{SCRIPT}</script>",
    f"{{{{ 7*7 }}}}{{% raw %}}<script>{SCRIPT}</script>",
    f"<scr\x00ipt>{SCRIPT}</scr\x00ipt>",
    f"<script\u2028>{SCRIPT}</script>",
    f"\u202e<script>{SCRIPT}</script>",
]


def file_name(word):
    """Return what of a text can be in a file's name."""
    return word.replace("/", "").replace("\0", "")[:60]


def hostile_study(outputs, figures=False):
    """Write a study in which all that is shown is hostile: an arm for each text, and each field in turn."""
    some = "".join(HTML)
    names = ("python", "torch", "host")
    for number, word in enumerate(HTML if not figures else HTML[:6]):
        fingerprint = f"{number:010x}"
        classes = [HTML[(number + k) % len(HTML)] + str(k) for k in range(3)]
        run = write_run(
            outputs, word, 0, 0.6, study="s", fingerprint=fingerprint, classes=classes, images=30, epochs=2,
            changes=[word, some], command=word, repeat=some, environment=dict.fromkeys(names, word),
            device={"kind": word, "name": word, "precision": word, "threads": word},
            code={"version": word, "commit": word, "digest": word},
        )  # fmt: skip
        folder = run.folder.with_name(f"{number}{file_name(word)}")
        run.folder.rename(folder)
    for number, status in enumerate(("failed", "oom", "diverged", "skipped", "interrupted")):
        error = {"type": HTML[number], "message": some}
        run = write_run(outputs, HTML[-1 - number], 9, study="s", fingerprint=f"{number}", status=status, error=error)
        edit_record(run.folder, fingerprint=some)
    arms, reported = list(HTML), dict.fromkeys(HTML, 50.0)
    claims = [f"{word} > {word}" for word in HTML]
    fields = {"name": some, "question": some, "source": some, "command": some, "claims": claims, "reported": reported}
    runs = [{"folder": word, "arm": f"not run {word}", "seed": word, "fingerprint": word} for word in HTML[::-1]]
    study_file.write_study(outputs / "s", {**fields, "baseline": HTML[0], "arms": arms, "runs": runs})
    return outputs / "s"
