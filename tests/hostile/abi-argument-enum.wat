;; Logs at a level that there is not. Must trap.
(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
(run (call $log (i32.const 99) (i32.const 1100) (i32.const 2)) (call $fine))
