"""Who may open the admin view, and what each may do there.

Front desk: `people` (the four roles), `sessions` (a browser that is signed in), `users` (who there
is), `codes` (one-time links), `door` (what stands before every page).
"""
