"""The sample set's phrase bank: templates per intent, all written for this project; `{slot}` is filled from SLOTS.

"Hard" templates share their words with another intent.
"""

from __future__ import annotations

TEMPLATES: dict[str, tuple[str, ...]] = {
    "privacy_request": (
        "{please} {show} a copy of {all} my {data}.",
        "What {data} do you hold about me?",
        "Under {law} I ask for access to my {data}.",
        "I would like to know what {data} you have stored {since} and who received it.",
        "Which {partner} have you given my {data} to?",
        "{please} tell me where my {data} came from.",
        "How do I download everything you know about me?",
        "I am making a subject access request, reference {digits}.",
        "{please} correct the {data} you keep on me, it is wrong {since}.",
        "How long do you keep my {data}, and why?",
        "{show} the {data} linked to {email}, as {law} allows.",
        "Do you have my {data}? If so I want to see it.",
    ),
    "data_deletion": (
        "{please} {erase} my {account}.",
        "{please} {erase} {all} my {data}.",
        "I want my {account} gone, with {all} the {data} in it.",
        "Under {law} I ask you to {erase} my {data}.",
        "Close my {account} and {erase} my {data} by {day}.",
        "I no longer use the {product}, so {erase} my {account}.",
        "Forget me. {erase} whatever is filed under {email}.",
        "I am exercising my right to be forgotten.",
        "How do I {erase} my {account} for good?",
        "My {account} should not exist any more, I asked {time}.",
        "Nothing of mine should stay on your servers, not even my {data}.",
        "{please} shut down the {account} of {name} and keep no {data}.",
    ),
    "opt_out": (
        "{stop} the {channel}.",
        "{please} take me off the list for {channel}.",
        "I do not want {channel} from you any more.",
        "Do not sell my {data} to {partner}.",
        "Under {law} I opt out of the sale of my {data}.",
        "I withdraw my consent to {channel}.",
        "How do I unsubscribe from the {channel}?",
        "Stop sharing my {data} with {partner}.",
        "I keep getting {channel} {since}, make it end.",
        "Leave me out of profiling and {channel}.",
        "I never signed up for {channel}. Enough!",
        "{please} object on my behalf: no {channel}, no tracking by {partner}.",
    ),
    "other": (
        "How can I {issue}?",
        "I tried to {issue} {time} and it failed.",
        "The {product} {fault}.",
        "The {product} {fault} {since}, can someone look?",
        "{please} help me {issue}.",
        "Where is order {digits}? It was due {time}.",
        "Is the {product} included in the {product}?",
        "Do I need a new {account} to {issue}?",
        "What does the {product} cost from {day} on?",
        "Great service {time}, thanks to the agent!",
        "I was billed {time} although I use the free plan.",
        "Can {name} and I share one {account}?",
    ),
}

# Each belongs to its key although its words speak for another intent.
HARD: dict[str, tuple[str, ...]] = {
    "privacy_request": (
        "Before I delete my {account}, {show} a copy of my {data}.",
        "I am not asking you to {erase} anything, only to see my {data}.",
        "Did you really {erase} my {data} {time}? Show me what is left.",
        "Why do I get {channel}? Tell me what {data} you hold and where you got it.",
        "Someone at the desk said you sell {data} to {partner}. Which of mine?",
    ),
    "data_deletion": (
        "Unsubscribing is not enough, {erase} my {account} as well.",
        "I got my copy, thanks. Now {erase} the {data}.",
        "Don't just stop the {channel}, I want {all} my {data} removed.",
        "I could not {issue}, so that's it: {erase} my {account}.",
        "You showed me my {data} {time}. None of it should be kept.",
    ),
    "opt_out": (
        "Do not delete my {account}, only stop the {channel}.",
        "Keep my {data} on file, but no {channel} please.",
        "I don't need a copy of my {data}, I just want {partner} not to get it.",
        "Delete me from the {channel} list. The {account} stays.",
        "Remove my {data} from what {partner} can see, the rest is fine.",
    ),
    "other": (
        "Is your {product} in line with {law}? Asking for our school's review.",
        "I deleted the app {time}, how do I get my {account} back?",
        "Your {law} banner covers the whole page and I cannot {issue}.",
        "I stopped getting {channel} {since}, can you turn them on again?",
        "Someone removed my {product} from the {account}. How do I {issue}?",
        "Where do I read your policy on {data} and {law}?",
        "The unsubscribe link {fault}, by the way nice {product}.",
        "Do not cancel my {account}, I only wanted to {issue}.",
        "Which {data} do I need to give you to {issue}?",
    ),
}

# Two intents in one message, under the one that must be served first; the second clause belongs to the second.
SECOND_CLAUSE: dict[str, tuple[str, ...]] = {
    "privacy_request": ("Also, {stop} the {channel}.", "After that you may {erase} it.", "And how do I {issue}?"),
    "data_deletion": ("And {stop} the {channel}.", "Tell me what {data} you had.", "And refund order {digits}."),
    "opt_out": ("Otherwise the {account} may stay.", "Next time I will {erase} it all.", "And I still cannot {issue}."),
    "other": ("If not, I might close my {account}.", "And why do I get {channel}?", "I hope my {data} is safe."),
}

# Read alone they can mean any of the intents named; a careful labeller would be of two minds.
AMBIGUOUS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("I have a question about my {data} and {law}.", ("privacy_request", "other")),
    ("Take me off your system, {name}, {email}.", ("data_deletion", "opt_out")),
    ("I don't want you to have my {data}.", ("data_deletion", "opt_out")),
    ("Please sort out my {data} under {law}.", ("privacy_request", "data_deletion")),
    ("Cancel everything to do with the {product}.", ("data_deletion", "opt_out", "other")),
    ("I object to what you do with my {data}.", ("opt_out", "privacy_request")),
    ("Remove me. {digits}", ("data_deletion", "opt_out")),
    ("What about my {data} and the {product}?", ("privacy_request", "other")),
)
