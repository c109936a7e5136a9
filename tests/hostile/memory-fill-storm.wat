;; Tries to write all of its memory again and again with single instructions, which cost little fuel and much
;; time. Must end at its deadline.
(run
    (drop (memory.grow (i32.const 800)))
    (loop $on (memory.fill (i32.const 65536) (i32.const 7) (i32.const 50000000)) (br $on))
    unreachable)
