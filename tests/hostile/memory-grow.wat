;; Tries to grow its memory without end, and traps when that is refused. Must end at its limit on memory.
(run (loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)
