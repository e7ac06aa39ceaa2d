"""Specialists: which model suits a task, by rules of the gateway's file or learned from outcomes.

`features` says what is known of a task before it is answered, `rules` reads the file's rules,
`classifier` applies what `learned` found, `fitting` reads the log and decides whether it is used.
"""
