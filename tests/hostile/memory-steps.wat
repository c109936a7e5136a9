;; Tries to grow by one page for ever and minds no refusal. Must end at its limit on memory.
(run (loop $on (drop (memory.grow (i32.const 1))) (br $on)) unreachable)
