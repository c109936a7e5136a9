;; Uses typed references to functions, called without a check. Must be refused when it is installed.
(component (core module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))))
