"""
The frame, style and refresh of both programs' HTML pages; it knows nothing of slots.

Start with `frame.py`: a program's templates extend `templates/frame.html`. `style.css` is the only stylesheet, and
`refresh.js` the only script.
"""
