"""`make chaos`: the real product under seeded faults, and a checker of what must hold whatever happened.

A buyer launches runs over the API while processes are killed or stopped, messages lost and doubled, the database
locked or its connections cut, and the disk filled. `__main__.py` tells the story; `faults.py` has what is done to the
product, `invariants.py` what is asked of it in the end.
"""
