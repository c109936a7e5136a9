;; Tries to take four gigabytes in one step. Must be refused, and end when it traps.
(run (if (i32.eq (memory.grow (i32.const 65530)) (i32.const -1)) (then unreachable)) (call $fine))
