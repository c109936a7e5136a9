;; Reads beyond the end of its memory, where an engine with a fault would give it somebody else's. Must trap.
(run (drop (i32.load offset=0xfffffffc (i32.const -1))) (call $fine))
