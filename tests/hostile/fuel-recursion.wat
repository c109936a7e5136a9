;; Tries to hide endless work in calls through a table that are never deep: 2^60 of them. Must end when its fuel
;; is gone.
(type $step (func (param i32)))
(table 1 funcref)
(elem (i32.const 0) $step)
(func $step (type $step)
    (if (local.get 0) (then
        (call_indirect (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
        (call_indirect (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
(run (call $step (i32.const 60)) (call $fine))
