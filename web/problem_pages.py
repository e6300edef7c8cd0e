"""/problems: the pages that explain each problem type, named by its `type`."""

from html import escape

from aiohttp import web

from app import app
from app.errors import NotFound, Problem, every_problem
from web.documents import declared_operations
from web.http.endpoint import HTML, TEXT, Answer, endpoint
from web.http.problems import TYPES, View
from web.pages import html, page


@app.page("/problems")
class ProblemsView(View):
    """All problem types."""

    @endpoint(
        "listProblems", Answer(200, "A page", TEXT, media=HTML), query=None, needs_servers=False
    )
    async def get(self, request: web.Request) -> web.Response:
        """List all problem types."""
        rows = "".join(_row(problem) for problem in _sorted())
        head = "<tr><th>Status<th>Type<th>Title<th>Meaning</tr>"
        return html(page("Problems", f"<h1>Problems</h1><table>{head}{rows}</table>"))


@app.page("/problems/{slug}")
class ProblemView(View):
    """One problem type."""

    @endpoint(
        "getProblem",
        Answer(200, "A page", TEXT, media=HTML),
        query=None,
        needs_servers=False,
        own_problems=(NotFound,),
    )
    async def get(self, request: web.Request, slug: str) -> web.Response:
        """Explain one problem type, and list the operations that may answer with it."""
        for problem in _sorted():
            if problem.slug == slug:
                return html(page(problem.title, _explained(problem)))
        raise NotFound


def _sorted() -> list[type[Problem]]:
    return sorted(every_problem(), key=lambda problem: (problem.status, problem.slug))


def _row(problem: type[Problem]) -> str:
    link = f'<a href="/problems/{problem.slug}"><code>{problem.slug}</code></a>'
    told = escape(problem.__doc__ or "")
    return f"<tr><td>{problem.status}<td>{link}<td>{escape(problem.title)}<td>{told}</tr>"


def _explained(problem: type[Problem]) -> str:
    again = (
        "The same request may succeed later: wait for the seconds in <code>Retry-After</code>."
        if problem.retry_after
        else "The same request will be answered the same until something changes."
    )
    places = "".join(
        f"<li><code>{method.upper()} {escape(path)}</code> ({declared.name})"
        for path, method, declared, _ in declared_operations()
        if problem in declared.problems(path)
    )
    where = f"<h2>Answered by</h2><ul>{places}</ul>" if places else ""
    return (
        f"<p><a href='/problems'>All problems</a></p><h1>{problem.status} {escape(problem.title)}"
        f"</h1><p><code>{TYPES}{problem.slug}</code></p>"
        f"<p>{escape(problem.__doc__ or '')}.</p><p>{again}</p>{where}"
    )
