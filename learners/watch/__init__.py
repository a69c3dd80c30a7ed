"""Noticing a fall in quality: what users ask and do now against what they asked and did when the champion
began.

- `settings`: how many queries, which alpha
- `columns`: one query → numbers and yes/no signals
- `reference`: what the champion's first queries looked like, and the bets against it
- `state`: the pure fold over queries: reference, windows, alarms
- `follow`: the fold with the two-sample tests in between
- `two_sample`: Evidently's tests of one window, as a process of its own
- `tester`: starts that process, asks it, bounds its time
"""
