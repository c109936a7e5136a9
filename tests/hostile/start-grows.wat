;; Takes more memory than its limit while it is instantiated. Must end at its limit on memory.
(func $grow (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable)))
(start $grow)
(run (call $fine))
