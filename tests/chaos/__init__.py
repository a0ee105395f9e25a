"""Random histories, policies, processes and faults, judged by the oracle: ``python -m tests.chaos --seconds 60``.

A round builds repositories, starts one to three function processes, and lets a registry answer them that fails at
random while clients push, move tags and attach things, mostly in the worst moment.  The registry writes down every
request and every state.  Afterwards the judge, who knows the promises and none of the product's code, goes through
the records:

* every deletion must be justified by a complete listing that the same process was given, no longer ago than a plan
  may be acted on, and the oracle must let the manifest go in it;
* a tag is deleted only if it was looked at immediately before, and still named what was judged;
* subjects go before their referrers, indexes before their children;
* what every state and every listing of the round keeps is there at the end, and so is everything pushed meanwhile;
* a message is acknowledged only when a listing that began after its publication was carried out;
* once faults stop, runs end in exactly what the policy says.

What falls into a gap that no client can close is counted apart (see ``Judge``).

All changes of the repositories are made in the registry's one thread, so the records are in order.  Time constants of
the product are shortened (see ``shortened``), or a round would take minutes.
"""
