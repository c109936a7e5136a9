;; Tries to compute for ever. Must end when its fuel is gone.
(run (loop $on (br $on)) unreachable)
