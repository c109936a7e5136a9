;; Returns an outcome and calls the host when that cleans up. Must trap: nobody leaves a component then.
(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
(func (export "cabi_post_chimera:skill/runner@0.1.0#run") (param i32) (call $log (i32.const 1) (i32.const 1100) (i32.const 2)))
(run (call $fine))
