# SPDX-License-Identifier: MIT
"""Where we answer otherwise than Debian's C xenstored 4.17, and why: the table that rows and the
differential fuzzer refer to. A difference that is not in it is a fault, of ours or of a test.
"""

import collections

REASONS = {
    "error-cleared": "INTRODUCE of a domain whose ring is in error clears the error and serves it"
                     " again; 4.17 neither",
    "features": "a ring's page tells what we offer (reconnection, error, depth, any domain); 4.17"
                " writes nothing there",
    "half-message": "INTRODUCE again drops a message of which only a part had come; 4.17 goes on "
                    "with it",
    "killed": "a transaction that was open when the daemon was killed is refused at its end",
    "made-and-removed": "a node that a transaction makes and removes again: an event from us, "
                        "none from 4.17",
    "malformed": "requests of one argument that are malformed: EINVAL from us, always; what 4.17 "
                 "says is not reliable, so it is not asked",
    "newer": "requests and features of newer Xen, which we serve on any",
    "numbers": "a domid that is no number: EINVAL from us, 0 to 4.17",
    "order-of-commit": "a commit's events come in the order of its changes from us, in that in "
                       "which nodes were first looked at from 4.17",
    "order-of-end": "a dead domain's nodes go in an order of ours, and in another of 4.17's",
    "quota-first": "a commit that conflicts and would exceed a quota: ENOSPC from us, EAGAIN from"
                   " 4.17",
    "quota-inside": "what is above the node quota is refused inside the transaction by us, at its"
                    " end by 4.17",
    "quota-names": "we call a limit as newer Xen does, node-permissions; 4.17: permissions",
    "reconnection": "a guest that asks for it is connected anew at once; by 4.17 at INTRODUCE "
                    "only",
    "refused-death": "a commit that removes nodes of a domain that died meanwhile: nothing "
                     "against it from us, ENOMEM from 4.17",
    "refused-later": "we refuse a commit of which 4.17 read the live tree later, after the change",
    "refused-less": "we refuse a commit only if an answer given inside would now differ; 4.17 "
                    "whenever a node that was looked at was written",
    "release-order": "4.17 answers RELEASE before its events if the domain is the next in its "
                     "loop",
    "shutdown-and-death": "a shutdown noticed together with a death: an @releaseDomain for each "
                          "from us, that of the death only from 4.17",
    "sleeps": "4.17 may sleep past an event's time until something else wakes it",
    "snapshot": "inside a transaction we show the tree of its start; 4.17 the live one, until a "
                "node is first looked at",
    "target-kept": "4.17 keeps a dead domain half alive while it is the target of another",
}

_met = collections.Counter()


def met(why):
    """Notes that a difference of this kind was looked at."""
    _met[why] += 1


def summary():
    """The reasons that were met, one a line, with how often."""
    return "\n".join(f"{count:5} x {why}: {REASONS[why]}" for why, count in sorted(_met.items()))
