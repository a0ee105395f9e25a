"""Random histories, policies, processes and faults, judged by the oracle: ``python -m tests.chaos --seconds 60``.

A round builds repositories, starts one to three function processes and now and then a command line, and lets a
registry answer them that fails at random while clients push, move tags and attach things, mostly in the worst
moment.  Runs are cut within an image: the next deletion fails for good, or the process is killed.  The registry
writes down every request and every state.  Afterwards the judge, who knows the contract's section 6 and none of the
product's code, goes through the records:

* a deletion rests on the latest complete listing of its process, judged as if the run had deleted nothing yet, and
  the oracle must let the manifest go in it (``views``, ``judge_deletions``);
* an untagged image is deleted by count only if two listings agree;
* a tag is deleted only if it was looked at immediately before, and still named what was judged;
* indexes go before children, subjects before referrers by tag, OCI referrers between their subject's tags and the
  subject, and soon after the listing;
* an image is begun only while its plan is young, and what was refused or has failed is not asked for for ever
  (``judge_runs``);
* what every state and every listing of the round keeps, if no run had deleted anything of it, is there at the end,
  and so is everything pushed meanwhile (``judge_rest``);
* a message is acknowledged only when a listing that began after its publication was carried out;
* once faults stop, runs end in exactly what the policy says.

What falls into a gap that no client can close is counted apart (see ``Judge``).

All changes of the repositories are made in the registry's one thread, so the records are in order.  Time constants of
the product are shortened (see ``shortened``), or a round would take minutes.  With ``--jobs`` rounds run side by
side; ``--save`` keeps the records of those that were lost.
"""
