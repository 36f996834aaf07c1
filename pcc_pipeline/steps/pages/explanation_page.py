"""An explained message as a person reads it: in the terminal, and as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pcc_pipeline.data.labels import one_line
from pcc_pipeline.evaluation.explanations.nearest_rows import LearnedRow
from pcc_pipeline.evaluation.explanations.word_weights import Explanation, Part

_INDENT = " " * 11
# Shares of the heaviest part's weight, below which a part is not marked, and from which on it is marked strongly.
_SHOWN, _STRONG = 0.1, 0.5
_MOST_LINES, _LONGEST = 5, 60
_BOLD, _FOR, _AGAINST, _PLAIN = "1", "34", "33", "\x1b[0m"
_NEAREST = "nearest messages that it learned, by case id"
_METHODS = {
    "leave-out": (
        "The weight of a word is what the answer loses without it: the change of the log-odds of the answer against "
        "the runner-up when the word is left out of the message and the model asked again. Words of a long message are "
        "left out in groups."
    ),
    "surrogate": (
        "The weight of a word is its coefficient in a linear model of the log-odds of the answer against the "
        "runner-up, fitted to the model's answers to the message with words left out at random. Words of a long "
        "message are taken in groups."
    ),
}


def explanation_lines(
    explanation: Explanation, classes: tuple[str, ...], model_version: str, undecided: str, colour: bool
) -> list[str]:
    """The answer, the message with its words marked, the heaviest words, and the answer without them."""
    answer, other = (one_line(classes[place]) for place in (explanation.decided, explanation.runner_up))
    shares = explanation.probabilities
    lines = [
        f"explained  {model_version} answers {answer} with {shares[explanation.decided]:.3f}; "
        f"runner-up {other} with {shares[explanation.runner_up]:.3f}",
        *([f"{_INDENT}{undecided}"] if undecided else []),
        "",
        _marked(explanation, colour),
        "",
    ]
    if not explanation.parts:
        return [*lines[:2], f"{_INDENT}the message has no words to leave out"]
    for title, parts in _tables(explanation, answer, other):
        lines += [f"{_INDENT}{title}", *(_line(explanation, part) for part in parts)]
    if explanation.named:
        lines.append(f"{_INDENT}without all {_left(explanation, classes, answer)}")
    return lines


def _left(explanation: Explanation, classes: tuple[str, ...], answer: str) -> str:
    """What is answered once all that is named is left out."""
    left, now = explanation.left, int(explanation.left.argmax())
    same = now == explanation.decided
    other = "" if same else f"{one_line(classes[now])} with {left[now]:.3f}, "
    return (
        f"{len(explanation.named)} that speak for it: {'still ' * same}{other}{answer} with "
        f"{left[explanation.decided]:.3f}"
    )


def nearest_lines(nearest: Sequence[LearnedRow]) -> list[str]:
    """The nearest rows that the model learned; none where there are none."""
    if not nearest:
        return []
    lines = [f"  {row.similarity:6.3f}   {one_line(row.label)}   {one_line(row.case_id)}" for row in nearest]
    return [f"{_INDENT}{line}" for line in (_NEAREST, *lines)]


def _tables(explanation: Explanation, answer: str, other: str) -> list[tuple[str, list[Part]]]:
    against = sorted((part for part in explanation.parts if part.weight < 0), key=lambda part: part.weight)
    tables = [
        (f"speaks for {answer} against {other}, the heaviest first", list(explanation.named)),
        (f"speaks against {answer}", against[:_MOST_LINES]),
    ]
    return [(title, parts) for title, parts in tables if parts]


def _line(explanation: Explanation, part: Part) -> str:
    words = one_line(explanation.words(part))
    shown = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
    return f"{_INDENT}  {part.weight:+6.2f}   without it {part.without:.3f}   {shown}"


def _marked(explanation: Explanation, colour: bool) -> str:
    """The message as one line, its control characters left out: colours where there are any, else signs."""
    pieces = []
    for text, share in _pieces(explanation):
        # One line for all: blanks at the ends of a piece are kept.
        plain = "".join(letter if letter.isprintable() else " " for letter in text)
        if abs(share) < _SHOWN:
            pieces.append(plain)
        elif colour:
            codes = [*([_BOLD] if abs(share) >= _STRONG else []), _FOR if share > 0 else _AGAINST]
            pieces.append(f"\x1b[{';'.join(codes)}m{plain}{_PLAIN}")
        else:
            pieces.append(f"[{'+' if share > 0 else '-'}{plain}]")
    return "".join(pieces)


def _pieces(explanation: Explanation) -> Iterator[tuple[str, float]]:
    """The whole message in order, each piece with its weight as a share of the heaviest, -1..1; 0 between words."""
    heaviest, end = max((abs(part.weight) for part in explanation.parts), default=0.0), 0
    for part in explanation.parts:
        yield explanation.text[end : part.start], 0.0
        yield explanation.words(part), part.weight / heaviest if heaviest else 0.0
        end = part.end
    yield explanation.text[end:], 0.0


_STYLE = """
:root { color-scheme: light dark; --for: 0, 114, 178; --against: 213, 94, 0; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
.message { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #9aa5b1; border-radius: 6px;
  padding: 1rem; }
.for { background: rgba(var(--for), calc(var(--share) * .6)); border-bottom: 2px solid rgb(var(--for)); }
.against { background: rgba(var(--against), calc(var(--share) * .6)); border-bottom: 2px dotted rgb(var(--against)); }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
td:first-child, td:nth-child(2) { font-variant-numeric: tabular-nums; }
.undecided { font-weight: bold; }
@media print { * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def explanation_page(
    explanation: Explanation,
    classes: tuple[str, ...],
    model_version: str,
    undecided: str,
    nearest: Sequence[LearnedRow] = (),
) -> str:
    """HTML that loads nothing and runs nothing; whatever is written in the message is shown as text."""
    answer, other = classes[explanation.decided], classes[explanation.runner_up]
    shares = explanation.probabilities
    marked = "".join(
        escape(text)
        if abs(share) < _SHOWN
        else f'<span class="{"for" if share > 0 else "against"}" style="--share:{abs(share):.2f}">{escape(text)}</span>'
        for text, share in _pieces(explanation)
    )
    tables = [
        f"<h2>{escape(title)}</h2>\n<table><tr><th>log-odds</th><th>{escape(answer)} without it</th><th>words</th></tr>"
        + "".join(
            f"<tr><td>{part.weight:+.2f}</td><td>{part.without:.3f}</td><td>{escape(explanation.words(part))}</td></tr>"
            for part in parts
        )
        + "</table>"
        for title, parts in _tables(explanation, answer, other)
    ]
    without = f"<p>Without all {escape(_left(explanation, classes, one_line(answer)))}.</p>"
    rows = "".join(
        f"<tr><td>{row.similarity:.3f}</td><td>{escape(row.label)}</td><td>{escape(row.case_id)}</td></tr>"
        for row in nearest
    )
    head = "<tr><th>cosine</th><th>label</th><th>case id</th></tr>"
    near = f"<h2>{escape(_NEAREST)}</h2>\n<table>{head}{rows}</table>" if nearest else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Why {escape(answer)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Why {escape(answer)}</h1>
<p>{escape(model_version)} answers <strong>{escape(answer)}</strong> with {shares[explanation.decided]:.3f};
runner-up {escape(other)} with {shares[explanation.runner_up]:.3f}.</p>
{f'<p class="undecided">{escape(undecided)}</p>' if undecided else ""}
<p class="message">{marked}</p>
<p><span class="for" style="--share:1">speaks for it</span>,
<span class="against" style="--share:1">speaks against it</span>: the stronger the colour, the heavier.</p>
{"".join(tables)}
{without if explanation.named else ""}
{near}
<p><small>{escape(_METHODS[explanation.method])} This page holds a customer's words: it is for you alone.</small></p>
</body>
</html>
"""
