;; Tries to compute until its time is over, with fuel for much longer. Must end at its deadline.
(run (loop $on (br $on)) unreachable)
