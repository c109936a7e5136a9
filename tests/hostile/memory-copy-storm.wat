;; Tries to copy half of its memory over the other half for ever. Must end at its deadline.
(run
    (drop (memory.grow (i32.const 800)))
    (loop $on (memory.copy (i32.const 65536) (i32.const 25000000) (i32.const 24000000)) (br $on))
    unreachable)
