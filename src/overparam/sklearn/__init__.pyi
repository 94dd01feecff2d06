from overparam.sklearn.kernel import NTKKernel as NTKKernel
from overparam.sklearn.network import OverparamClassifier as OverparamClassifier
from overparam.sklearn.network import OverparamRegressor as OverparamRegressor
from overparam.sklearn.ridge import NTKClassifier as NTKClassifier
from overparam.sklearn.ridge import NTKRegressor as NTKRegressor
