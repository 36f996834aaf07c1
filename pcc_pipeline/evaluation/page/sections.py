"""An evaluation's facts put into sections: what `report.html` shows whole, and `model_card.md` without its figures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.as_markdown import to_markdown
from pcc_pipeline.evaluation.page.blocks import (
    Block,
    Bullets,
    Cell,
    Code,
    Paragraph,
    Picture,
    Range,
    Section,
    Table,
    Tile,
    Tiles,
    Verdict,
)
from pcc_pipeline.evaluation.page.facts import (
    Document,
    EvaluatedFacts,
    cut,
    tested_on,
    training_facts,
    validation_facts,
)
from pcc_pipeline.evaluation.page.over_time import backtest_section, since_champion_section, volumes_section
from pcc_pipeline.evaluation.report import worst_first

_LONGEST_LABEL = 80
_MOST_ISSUES, _MOST_SLICES = 50, 40
_COMPARED = (("f1_macro", "macro F1"), ("accuracy", "accuracy"))
_NOT_MEASURED = "not measured"


def report_page(facts: EvaluatedFacts, pictures: Mapping[str, bytes]) -> str:
    """`report.html`: all that one needs to say whether the version may serve.

    Args:
        pictures: of `figures`, file stem -> PNG.
    """
    subtitle = f"on {tested_on(facts.test)}, {facts.measured_at:%Y-%m-%d %H:%M %Z}"
    return to_html(f"Evaluation of {_version(facts)}", subtitle, sections(facts), pictures)


def model_card(facts: EvaluatedFacts) -> str:
    """`model_card.md`: what the model is for, and the same facts."""
    return to_markdown(f"Model card of {_version(facts)}", [_use(facts), *sections(facts)])


def sections(facts: EvaluatedFacts) -> list[Section]:
    """From the answer to its grounds."""
    made = [
        _in_short(facts),
        *([Section("warnings", "Warnings", [Bullets(facts.doubts)])] if facts.doubts else []),
        _gates(facts),
        _champion(facts),
        _training(facts),
        _by_class(facts),
        _confusions(facts),
        _calibration(facts),
        _decisions(facts),
        _halves(facts),
        _slices(facts),
        backtest_section(facts),
        volumes_section(facts),
        since_champion_section(facts),
        _label_issues(facts),
        _measuring(facts),
        _words(),
    ]
    return [section for section in made if section is not None]


def _version(facts: EvaluatedFacts) -> str:
    if facts.registered is None:
        return facts.trained.name
    name, number = facts.registered
    return f"{name} version {number}, {facts.trained.name}"


def _number(value: float | None, decimals: int = 3) -> str:
    return _NOT_MEASURED if value is None else f"{value:.{decimals}f}"


def _between(interval: Sequence[float], decimals: int = 3) -> str:
    low, high = interval
    return f"95 % interval {low:.{decimals}f} to {high:.{decimals}f}"


def _label(label: object) -> str:
    return cut(str(label), _LONGEST_LABEL)


def _in_short(facts: EvaluatedFacts) -> Section:
    test, answers = facts.test, facts.test["answers"]
    tiles = [Tile(title, _number(test["scores"][name]), _between(test["intervals"][name])) for name, title in _COMPARED]
    measured = [each for each in worst_first(test["by_class"]) if each["f1"] is not None]
    if measured:
        worst = measured[0]
        strange = "; the model does not know this label" * (worst["label"] in test.get("unknown_labels", ()))
        of = f"{_label(worst['label'])}, {worst['support']:,} rows{strange}"
        tiles.append(Tile("worst class, F1", _number(worst["f1"]), of))
    calibration = answers["calibration"]
    tiles.append(Tile("calibration error", _number(calibration["error"]), _between(calibration["interval"])))
    decided = answers["decided"]
    if decided:
        right = f"right in {decided['accuracy']:.1%} of them" if "accuracy" in decided else "the rest goes to a person"
        tiles.append(Tile("decides alone", f"{decided['share']:.1%}", right))
    else:
        tiles.append(Tile("decides alone", "100 %", "no rule leaves rows to a person"))
    count = len(facts.doubts)
    warned = [Paragraph(f"{count} warning{'s' * (count > 1)} to read first, below.", "bad")] if count else []
    return Section("answer", "May it serve?", [*_answer(facts), *warned, Tiles(tiles), *_how_to_promote(facts)])


def _answer(facts: EvaluatedFacts) -> list[Block]:
    if not facts.gates:
        return [
            Paragraph("No gates are set (registry.gates is empty): nothing but a person's judgement stops it.", "open")
        ]
    failed = [gate for gate in facts.gates if gate.passes is False]
    waiting = [gate.gate for gate in facts.gates if gate.passes is None]
    count = len(facts.gates) - len(waiting)
    later = f" Only a promotion can judge {', '.join(waiting)}." if waiting else ""
    if failed:
        named = "; ".join(f"{gate.gate} (asked for {gate.required}, measured {gate.measured})" for gate in failed)
        return [
            Paragraph(
                f"Not as it stands: {len(failed)} of {count} gates that can be judged here fail: {named}.", "bad"
            ),
            *([Paragraph(later.strip())] if later else []),
        ]
    if not waiting:
        here = "all gates pass"
    else:
        here = {
            0: "none of the gates can be judged here",
            1: "the one gate that can be judged here passes",
        }.get(count, f"all {count} gates that can be judged here pass")
    if facts.champion is not None and facts.champion.is_this:
        return [Paragraph(f"It is the champion and serves already; on these rows {here}.{later}", "good")]
    return [Paragraph(f"Nothing measured here stands against it: {here}.{later}", "open" if waiting else "good")]


def _how_to_promote(facts: EvaluatedFacts) -> list[Block]:
    if facts.registered is None or (facts.champion is not None and facts.champion.is_this):
        return []
    name, number = facts.registered
    return [
        Paragraph(
            "Whoever promotes it has the gates judged again, and the decision goes on record with name and reason:"
        ),
        Code(f"pcc promote --model {shlex.quote(f'models:/{name}/{number}')}"),
    ]


def _gates(facts: EvaluatedFacts) -> Section | None:
    if not facts.gates:
        return None
    rows: list[list[Cell]] = []
    for gate in facts.gates:
        verdict = {True: Verdict("passes", "good"), False: Verdict("FAILS", "bad"), None: Verdict("open", "open")}
        measured = "judged at promotion" if gate.passes is None else gate.measured
        rows.append([gate.gate, verdict[gate.passes], measured, gate.required, gate.note])
    return Section(
        "gates",
        "What the gates will say",
        [
            Paragraph(
                "A version becomes the champion only if every gate passes, or somebody goes past one with a reason."
            ),
            Table(["gate", "verdict", "measured", "asked for", "note"], rows, words=5),
        ],
    )


def _champion(facts: EvaluatedFacts) -> Section:
    champion, title = facts.champion, "Against the champion"
    if champion is None:
        return Section("champion", title, [Paragraph("There is no champion yet that it could be worse than.")])
    if champion.is_this:
        return Section("champion", title, [Paragraph(f"It is the champion, version {champion.number}.")])
    if not champion.metrics:
        text = f"No measurement of the champion, version {champion.number}, on test rows is on record."
        return Section("champion", title, [Paragraph(text)])
    rows: list[list[Cell]] = []
    for name, shown in _COMPARED:
        theirs = champion.metrics.get(f"test/{name}")
        ends = [champion.metrics.get(f"test/{name}_{end}") for end in ("low", "high")]
        low, high = facts.test["intervals"][name]
        interval = "" if None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"
        rows.append([shown, _number(facts.test["scores"][name]), f"{low:.3f} to {high:.3f}", _number(theirs), interval])
    error = champion.metrics.get("test/calibration_error")
    rows.append(["calibration error", _number(facts.test["calibration_error"]), "", _number(error), ""])
    count = champion.metrics.get("test/rows")
    where = (
        "Both were measured on the same test rows."
        if champion.same_rows
        else "The champion was measured on other test rows"
        + (f" ({count:,.0f} of them)" if count is not None else "")
        + ", so a difference may be that of the rows."
    )
    return Section(
        "champion",
        title,
        [
            Table(["score", "this version", "95 % interval", f"champion {champion.name}", "95 % interval"], rows),
            Paragraph(
                f"{where} Whether a difference is more than luck is judged at promotion, on rows that neither "
                "has learned."
            ),
        ],
    )


def _training(facts: EvaluatedFacts) -> Section:
    metadata = facts.trained.metadata
    rows: list[list[Cell]] = [
        [
            "Model",
            f"{facts.trained.name}, on {metadata['embedding_model']} and {metadata['feature_dimensions']} numbers",
        ]
    ]
    rows += [[title, text] for title, text in training_facts(facts.trained)]
    rows.append(["Rows learned", f"{metadata['training_samples']:,}, at {metadata['training_timestamp']}"])
    rows += [[title, text] for title, text in validation_facts(facts.trained)]
    return Section("training", "What it learned", [Table([], rows, words=2)])


def _by_class(facts: EvaluatedFacts) -> Section:
    answers = facts.test["answers"]
    review, covered = answers["review_share"], answers["label_set_coverage"]
    columns = ["class", "F1", "95 % interval", "precision", "recall", "rows"]
    columns += (["left to a person"] if review else []) + (["set holds it"] if covered else [])
    rows: list[list[Cell]] = []
    for each in worst_first(facts.test["by_class"]):
        ends = each["intervals"].get("f1")
        row: list[Cell] = [_label(each["label"]), "–" if each["f1"] is None else f"{each['f1']:.3f}"]
        row.append("" if ends is None or each["f1"] is None else Range(each["f1"], *ends))
        row += ["–" if each[name] is None else f"{each[name]:.3f}" for name in ("precision", "recall")]
        row.append(f"{each['support']:,}")
        for shares in (review, covered):
            if shares:
                share = shares.get(each["label"])
                row.append("–" if share is None else f"{share:.0%}")
        rows.append(row)
    said = "Classes with few rows have wide intervals: what stands there is hardly known. "
    said += "Precision: of what it calls so, the share that is; recall: of what is so, the share that it finds."
    return Section("classes", "By class, the worst first", [Paragraph(said), Table(columns, rows)])


def _confusions(facts: EvaluatedFacts) -> Section:
    pairs = facts.test["confused_pairs"]
    if not pairs:
        return Section("confusions", "What it takes for what", [Paragraph("No test row was given a wrong label.")])
    wrong = sum(each["support"] for each in facts.test["by_class"]) - round(
        facts.test["scores"]["accuracy"] * facts.test["n_rows"]
    )
    rows: list[list[Cell]] = [
        [_label(pair["label"]), _label(pair["predicted"]), f"{pair['rows']:,} of {pair['of']:,}", _share(pair)]
        for pair in pairs
    ]
    shown = sum(pair["rows"] for pair in pairs)
    return Section(
        "confusions",
        "What it takes for what",
        [
            Paragraph(f"Its most frequent confusions, which are {shown:,} of {wrong:,} wrong rows:"),
            Table(["label", "taken for", "rows", "share of the label's"], rows, words=2),
            Picture(
                "confusion_matrix_normalised",
                "Confusion matrix: of the rows of each true class (line), the share given each label (column).",
            ),
        ],
    )


def _share(pair: Document) -> str:
    return f"{pair['rows'] / pair['of']:.0%}"


def _calibration(facts: EvaluatedFacts) -> Section:
    measured = facts.test["answers"]["calibration"]
    method = facts.trained.metadata.get("calibration", {}).get("method", "none")
    low, high = measured["interval"]
    rows: list[list[Cell]] = [
        [
            "of the predicted label",
            f"{measured['error_uncalibrated']:.4f}",
            f"{measured['error']:.4f}",
            f"{low:.4f} to {high:.4f}",
        ],
        [
            "of every class, the mean",
            f"{measured['classwise_error_uncalibrated']:.4f}",
            f"{measured['classwise_error']:.4f}",
            "",
        ],
    ]
    tried = len(facts.trained.metadata.get("calibration", {}).get("cross_validated_log_loss", {})) > 1
    how = (
        f"The model is not calibrated: no method {'did better on held-out training rows' if tried else 'was learned'}."
        if method == "none"
        else f"The model is calibrated by the method {method}, learned on held-out training rows."
    )
    return Section(
        "calibration",
        "How far its probabilities hold",
        [
            Paragraph(
                f"{how} The error is how far its probabilities lie from how often it is right, on average: "
                "0.02 says that 90 % means some 88 to 92 %."
            ),
            Table(["calibration error", "before", "after", "95 % interval"], rows),
            Picture(
                "calibration_curve",
                "How often it is right (up) where it is so sure (across); on the diagonal it is honest.",
            ),
        ],
    )


def _decisions(facts: EvaluatedFacts) -> Section:
    answers = facts.test["answers"]
    said: list[str] = [_rule(facts)]
    decided = answers["decided"]
    if "accuracy" in decided:
        ends = (decided["accuracy_low"], decided["accuracy_high"])
        said.append(
            f"On these rows it decides {decided['share']:.1%} of them, right in {decided['accuracy']:.3f} "
            f"({_between(ends)}), and leaves {1 - decided['share']:.1%} to a person."
        )
    elif decided:
        said.append("On these rows it decides none: every row is left to a person.")
    outside = answers["out_of_scope"]
    if outside:
        more = (
            "" if outside.get("auroc") is None else f", uncertainty ranks them with an AUROC of {outside['auroc']:.3f}"
        )
        said.append(
            f"Out of scope: of {outside['rows']:,.0f} such rows {outside['recall']:.1%} are left or recognised{more}."
        )
    sets = answers["label_sets"]
    if sets:
        said.append(
            f"Sets of labels: {sets['coverage']:.1%} hold the right label ({sets['share']:.0%} asked for), with "
            f"{sets['mean_size']:.2f} labels in the mean; {sets['single']:.0%} are one label."
        )
    rows: list[list[Cell]] = [
        [f"{float(share):.0%} of the rows", f"{accuracy:.4f}"]
        for share, accuracy in answers["accuracy_at_coverage"].items()
    ]
    return Section(
        "decisions",
        "What it may decide alone",
        [
            Bullets(said),
            Table(["the surest", "are right in"], rows),
            Picture(
                "risk_coverage",
                "Accuracy (up) of the surest rows, by the share that is decided (across); a diamond marks its rule.",
            ),
        ],
    )


def _rule(facts: EvaluatedFacts) -> str:
    rule = facts.trained.metadata.get("decision", {})
    threshold = rule.get("threshold")
    if threshold is None:
        return "It has no rule that leaves rows to a person: every row gets a label."
    instead = "no label" if rule.get("label") is None else f"the label {_label(rule['label'])}"
    if threshold > 1:
        return (
            f"Every row gets {instead} and goes to a person: no {rule['score']} was shown to be right often enough on "
            "held-out training rows (decision.target_accuracy)."
        )
    return f"Rows of {rule['score']} below {threshold:.4f} get {instead} and go to a person."


def _halves(facts: EvaluatedFacts) -> Section | None:
    importance = facts.test.get("importance")
    if importance is None or importance["lexical_share"] is None:
        return None
    most = sorted(
        (each for each in importance["by_class"] if each["lexical_share"] is not None),
        key=lambda each: -each["lexical_share"],
    )[:3]
    named = ", ".join(f"{_label(each['label'])} ({each['lexical_share']:.0%})" for each in most)
    how = {
        "contributions": "what each half adds to the scores of the classes, on average over these rows",
        "permutation": "how much worse its answers get when one half is shuffled among the rows",
    }[importance["method"]]
    return Section(
        "halves",
        "What it goes by",
        [
            Paragraph(
                f"{importance['sentence_share']:.0%} of what decides is the meaning of the sentence (the sentence "
                f"half of the vector), {importance['lexical_share']:.0%} the words and parts of words that stand in "
                f"it (the lexical half), by {how}. Most by words go {named}: other words for the same thing, or "
                "slips of the pen, change these answers soonest."
            ),
            Picture("feature_halves", "The shares of both halves, class by class, most by words on top."),
        ],
    )


def _slices(facts: EvaluatedFacts) -> Section | None:
    slices = facts.test.get("slices")
    if not slices:
        return None
    worse = len({(each["slice"], each["value"]) for each in slices if each["worse"]})
    count = len({(each["slice"], each["value"]) for each in slices})
    ranked = sorted(slices, key=lambda each: (not each["worse"], each["score"] is None, each["score"] or 0.0))
    rows: list[list[Cell]] = [
        [
            each["slice"],
            _label(each["value"]),
            Verdict("worse", "bad") if each["worse"] else "",
            f"{each['metric']} {_number(each['score'])}",
            "" if each["score"] is None else Range(each["score"], *each["interval"]),
            f"{each['rows']:,}",
        ]
        for each in ranked[:_MOST_SLICES]
    ]
    left = len(ranked) - len(rows)
    said = (
        f"{worse} of {count} slices are worse than chance allows, for how many were looked at."
        if worse
        else f"None of {count} slices is worse than chance allows, for how many were looked at."
    )
    more = [Paragraph(f"{left} more scores of slices: metrics.json.")] if left > 0 else []
    columns = ["slice", "value", "", "score", "95 % interval", "rows"]
    return Section("slices", "By kind of message", [Paragraph(said), Table(columns, rows, words=3), *more])


def _label_issues(facts: EvaluatedFacts) -> Section | None:
    issues = facts.label_issues
    if issues is None:
        return None
    if not issues:
        text = "Among the training rows none was found whose label looks wrong."
        return Section("labels", "Labels to look at", [Paragraph(text)])
    rows: list[list[Cell]] = [
        [str(each["case_id"]), _label(each["label"]), _label(each["suggested"]), f"{each['score']:.3f}"]
        for each in issues[:_MOST_ISSUES]
    ]
    count = facts.trained.metrics["data"]["label_issues"]
    shown = f", the first {len(rows)} of them here" if count > len(rows) else ""
    said = f"{count:,} training rows whose labels look wrong{shown}. Nothing was removed: it is a list to review."
    table = Table(["case", "label", "suggested", "score"], rows, words=3)
    return Section("labels", "Labels to look at", [Paragraph(said), table])


def _measuring(facts: EvaluatedFacts) -> Section:
    test = facts.test
    learned, unmeasured = test["overlap_removed_rows"], [each for each in test["by_class"] if each["f1"] is None]
    methods = "; ".join(f"of {name} {method}" for name, method in test["interval_methods"].items())
    done = [
        f"On {test['n_rows']:,} test rows of {tested_on(test)}"
        + (f"; {learned:,} more were left out, since the model learned their text or group." if learned else "."),
        "Search, hyperparameters, calibration and decision rule came from training rows alone.",
        "Scores are of all these rows, also of those that the rule would leave to a person, unless it is said.",
        f"Intervals (95 %) hold what the luck of the test rows does: {methods}; of classes Clopper-Pearson (exact); "
        "of the calibration error 400 resamples of the rows, less what resampling adds.",
        "A row whose label the model does not know counts as an error.",
    ]
    missing = [
        "How good it is for messages unlike these: other languages, channels, topics or times than the test rows'.",
        "How much another training, with another seed or split, would change the scores.",
        *(
            [f"Classes without test rows: {', '.join(_label(each['label']) for each in unmeasured)}."]
            if unmeasured
            else []
        ),
        *(
            ["Groups of messages (length, personal information, time, …): no slices were measured."]
            * (not test.get("slices"))
        ),
        *(["Wrong labels among the rows: nobody looked for them."] * (facts.label_issues is None)),
        *(["Out-of-scope messages: the test rows have no label for them."] * (not test["answers"]["out_of_scope"])),
        *(
            ["Whether it gets worse over time: no backtest was made (evaluation.backtest)."]
            * (facts.trained.metrics.get("backtest") is None)
        ),
        "Drift: whether what comes in today still looks like what it learned.",
    ]
    return Section(
        "measuring",
        "How it was measured, and what was not",
        [Paragraph("Measured:"), Bullets(done), Paragraph("Not measured:"), Bullets(missing)],
    )


def _words() -> Section:
    rows: list[list[Cell]] = [
        ["accuracy", "the share of rows that got their own label"],
        ["F1", "of one class, between precision and recall (their harmonic mean); 1 is best"],
        ["macro F1", "the mean of the classes' F1: a rare class counts as much as a frequent one"],
        ["95 % interval", "where the score of all messages like these lies, but for 1 time in 20"],
        ["calibration error", "how far stated and true certainty lie apart in the mean; 0 is best"],
        ["champion", "the version that serves; a challenger is a version that may take its place"],
        ["gate", "a demand of registry.gates that a version must meet to become the champion"],
    ]
    return Section("words", "Words used here", [Table([], rows, words=2)])


def _use(facts: EvaluatedFacts) -> Section:
    classes = facts.trained.metadata["classes"]
    return Section(
        "use",
        "What it is for",
        [
            Bullets(
                [
                    f"It sorts customers' messages by privacy intent into {len(classes)} classes, for people who "
                    "handle privacy requests.",
                    "It answers no message, and decides nothing about a person: what follows from a label is for "
                    "people to do and to check.",
                    "It was neither made for nor measured on messages unlike its test rows, such as other languages.",
                    "No training message is part of it or of this card: words are hashed, no vocabulary is kept.",
                ]
            )
        ],
    )
