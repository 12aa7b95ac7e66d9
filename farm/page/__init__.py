"""The page: what happens, in a browser. A process of its own that only reads (docs/page.md).

`index` keeps the newest holes, `following` fills it from the journal, `feed` asks the broker once a
second for all browsers together, `views` says what one hole or tool has to show, `gate` who may
look, `app` serves it, `process` is the shell; `static` is what runs in the browser.
"""
