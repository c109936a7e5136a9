;; Returns an outcome and recurses for ever when the host cleans up after it. Must end at the limit on the stack.
(func $deep (export "cabi_post_chimera:skill/runner@0.1.0#run") (param i32) (call $deep (local.get 0)) (drop (i32.load (i32.const 0))))
(run (call $fine))
