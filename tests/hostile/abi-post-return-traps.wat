;; Returns an outcome and traps when the host cleans up after it. Must end as a trap, whatever it returned.
(func (export "cabi_post_chimera:skill/runner@0.1.0#run") (param i32) unreachable)
(run (call $fine))
