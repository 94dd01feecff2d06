from overparam.apriori.coefficients import APrioriCoefficients as APrioriCoefficients
from overparam.apriori.coefficients import a_priori_coefficients as a_priori_coefficients
from overparam.apriori.inputs import Norms as Norms
from overparam.apriori.law import Sphere as Sphere
from overparam.apriori.moments import Moments as Moments
from overparam.apriori.width import RequiredWidth as RequiredWidth
from overparam.apriori.width import required_width as required_width
