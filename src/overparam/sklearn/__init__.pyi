from overparam.sklearn.kernel import NTKKernel as NTKKernel
from overparam.sklearn.ridge import NTKClassifier as NTKClassifier
from overparam.sklearn.ridge import NTKRegressor as NTKRegressor
from overparam.sklearn.wide_network import OverparamClassifier as OverparamClassifier
from overparam.sklearn.wide_network import OverparamRegressor as OverparamRegressor
