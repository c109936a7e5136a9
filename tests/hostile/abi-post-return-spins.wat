;; Returns an outcome and computes for ever when the host cleans up after it. Must end at its deadline.
(func (export "cabi_post_chimera:skill/runner@0.1.0#run") (param i32) (loop $on (br $on)))
(run (call $fine))
